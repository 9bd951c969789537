"""What runs the networks of encoders and rerankers."""
