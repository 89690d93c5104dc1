"""How a database of an older aistack becomes one of this."""
