"""MCP server: a library as tools of an assistant (Model Context Protocol)."""
