"""Limits of every query: in Python, at the terminal and over HTTP."""

MAX_K = 10_000
MAX_PARTS = 16
MAX_TEXT_LENGTH = 10_000
"""Characters of one text; encoders read far fewer."""
MAX_WEIGHT = 100.0
MAX_SPACES = 8
"""Spaces whose answers are joined."""
MAX_ITEM_ID = 2**63 - 1
MAX_LITERAL = 50
MAX_RERANK_DEPTH = MAX_K
MAX_RERANK_BUDGET_MS = 60_000.0
DEFAULT_BUDGET_MS = 2000.0
MAX_SOUND_S = 60
"""Seconds of a sound that are searched for, from its beginning."""
SOUND_RATE = 48_000
"""Samples a second of a sound to search for; CLAP models hear as many."""
