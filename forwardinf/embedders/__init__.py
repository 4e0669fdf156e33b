"""Embeddings of pictures, whose inner product is their visual similarity.

`unet` and `vae` embed with the attributed model and need nothing else; `artwork` is fitted to the shipped pictures and
knows them in disguise; any CLIP or DINOv2 checkpoint of transformers can be used instead. Similar pictures look alike,
influential ones shaped a picture: neither implies the other.
"""
