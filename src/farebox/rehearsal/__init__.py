"""Stand-ins at the providers' door: they speak real wire formats over real sockets and pipes, and no model is behind them.

They answer with a digest of what was asked, go wrong as a seed says, and keep their own books, so that a bill can be checked
against somebody who is not us.
"""
