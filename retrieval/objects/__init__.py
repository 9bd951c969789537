"""Objects: what an object store, a web server or a tar shard holds in place of a file.

The path of an object is its URI (`s3://bucket/photos/a.jpg`), or the path of its shard with the
name of a member (`/data/0001.tar/a.jpg`, `s3://bucket/0001.tar/a.jpg`). `opening` opens and looks
at any path, of a file or an object; nothing else needs to know the difference.
"""
