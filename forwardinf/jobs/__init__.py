"""Questions that the server answers one after another, whoever watches, and that a restart does not lose.

`run` says what a run is and keeps it on disk, `queue` answers the runs in order; `under_way` knows of longer work that
had not ended.
"""
