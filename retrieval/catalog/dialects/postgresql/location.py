"""The URL of a catalog in PostgreSQL: which server, database and schema, and how to get there."""

import re

import sqlalchemy as sa

from retrieval.errors import UsageError

DEFAULT_SCHEMA = "mmsearch"

OPTIONS = frozenset(
    {
        "channel_binding",
        "connect_timeout",
        "gssencmode",
        "host",
        "passfile",
        "port",
        "schema",
        "sslcert",
        "sslkey",
        "sslmode",
        "sslrootcert",
        "target_session_attrs",
    }
)
"""What may follow the question mark; all but `schema` are options of libpq."""

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def schema_of(url: sa.URL) -> str:
    """Return the schema that a URL names; raises UsageError for one that cannot be used."""
    if unknown := sorted(set(url.query) - OPTIONS):
        raise UsageError(
            f"Unknown options of a PostgreSQL catalog: {', '.join(unknown)[:200]}. Known: "
            f"{', '.join(sorted(OPTIONS))}."
        )
    schema = url.query.get("schema", DEFAULT_SCHEMA)
    if (
        not isinstance(schema, str)
        or not _SCHEMA.fullmatch(schema)
        or schema.startswith("pg_")
        or schema == "information_schema"
    ):
        raise UsageError(
            "A schema has one name of lower-case letters, digits and underscores, of at most 63 "
            "characters: postgresql://HOST/DATABASE?schema=NAME."
        )
    return schema


def shown(url: sa.URL) -> str:
    """Write a URL for messages and files: without its password."""
    bare = sa.URL.create(
        "postgresql", url.username, None, url.host, url.port, url.database, url.query
    )
    return bare.render_as_string(hide_password=False)
