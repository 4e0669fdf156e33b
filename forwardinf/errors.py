"""Everything that Forward-INF raises on purpose.

ForwardInfError
├── InvalidRequest        what was asked for is empty, too long or out of range
├── InvalidSettings       an environment variable or flag that cannot be used
├── MissingAsset          a file or folder that should be there is not
├── DamagedAsset          a file is there, but is not what its manifest says
├── IndexMismatch         an index that belongs to another model, or was made otherwise
├── NonFinite             a model computes a loss, or anything else, that is not a finite number
├── OutOfMemory           the device has too little memory for even a single picture
├── StopRequested         whoever waited for a result does not want it any more
├── UnsupportedModel      a checkpoint that no model family here can read
├── StorageFailed         a database of cases that cannot be opened, read or written
├── TransferFailed        an index that cannot be sent to another place or fetched from it
├── WorkersLost           the processes or machines that a sweep ran on ended, or none could be had
└── UnreadablePicture     an uploaded file that cannot be used as a picture

Messages are written for the person who sees them: what happened, to what, and what to try. They name files by their
path below the folder in question, never by a machine's full path.
"""

from __future__ import annotations


class ForwardInfError(Exception):
    """Base of every error raised on purpose; its text can be shown as it is."""


class InvalidRequest(ForwardInfError):
    pass


class InvalidSettings(ForwardInfError):
    pass


class MissingAsset(ForwardInfError):
    pass


class DamagedAsset(ForwardInfError):
    pass


class IndexMismatch(ForwardInfError):
    pass


class NonFinite(ForwardInfError):
    pass


class OutOfMemory(ForwardInfError):
    pass


class StopRequested(ForwardInfError):
    pass


class UnsupportedModel(ForwardInfError):
    pass


class StorageFailed(ForwardInfError):
    pass


class TransferFailed(ForwardInfError):
    pass


class WorkersLost(ForwardInfError):
    pass


class UnreadablePicture(ForwardInfError):
    pass
