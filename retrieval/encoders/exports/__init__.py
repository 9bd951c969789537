"""Models of open_clip as ONNX files: made once, kept in the user's cache, run without PyTorch."""
