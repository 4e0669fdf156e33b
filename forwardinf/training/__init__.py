"""How the shipped model and its training set are made.

`artwork` gathers the pictures, `vocabulary` learns the tokenizer, `vae` and `diffusion` train, `figures` measures the
result and `release` writes it to `assets/`. Nothing here runs in the app.
"""
