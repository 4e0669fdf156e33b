"""What makes two pictures look alike: embeddings of pictures, whose inner product is their visual similarity.

`unet` and `vae` look through the attributed model's own eyes and need nothing else; any CLIP or DINOv2 checkpoint of
transformers can be used instead. Similarity says what looks alike, influence what shaped a picture: neither implies
the other.
"""
