"""Fine-tune dual encoders on pairs of images and captions."""
