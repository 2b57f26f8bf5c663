"""Views: tables made from the log, and nothing else; every one of them can be thrown away and rebuilt."""
