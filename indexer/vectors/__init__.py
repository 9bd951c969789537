"""Vectors that were made elsewhere: add them to a library, read them from files, write them."""
