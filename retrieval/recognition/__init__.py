"""Recognisers: models that find text in pictures and in speech, and what they find."""
