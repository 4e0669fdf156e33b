"""What one hypothesis is good for beside pictures: a study for each use, with figures, goals and rivals.

A study is a module here with NAME, TITLE, a `Size` and `run(size)`; adding one is adding a file.
"""
