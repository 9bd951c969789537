"""`mmsearch bench`, a command or a group of them a module."""
