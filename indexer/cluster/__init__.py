"""Indexing on many machines with Ray: files are read and encoded there, and recorded in a table.

The only package that imports Ray, but for `retrieval.lance`, which builds indices with it.
"""
