"""How the shipped model, its training set and the models of the studies are made. Nothing here runs in the app.

`artwork` gathers the pictures, `vocabulary` learns the tokenizer, `vae` and `diffusion` train, `figures` measures the
result and `release` writes it to `assets/`. `lab` and `customise` train for the studies.
"""
