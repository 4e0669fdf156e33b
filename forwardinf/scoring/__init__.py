"""From what moving the weights did to each training image to a score, and how sure that score is.

`score` holds the whole formula, `null` what an image scores under pictures that owe it nothing, `confidence` which
images stand out and how steady their ranks are, `groups` whether a creator's images rank higher than chance.
"""
