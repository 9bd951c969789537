"""The service on Ray Serve: replicas, shards, and the gateway before them."""
