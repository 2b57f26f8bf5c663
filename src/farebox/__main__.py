"""`python -m farebox` is the command `farebox`."""

from farebox.cli import main

if __name__ == "__main__":
    main()
