"""Forward-INF in the browser: `python app.py`, and the entry point of a Hugging Face Space."""

from __future__ import annotations

import sys

from forwardinf.config import load_settings
from forwardinf.errors import ForwardInfError
from forwardinf.visible import visible


def main() -> int:
    """Serve until interrupted; 2 where the settings or the shipped files cannot be used."""
    try:
        from forwardinf.web.serving import serve

        serve(load_settings())
    except ForwardInfError as error:
        print(f"Forward-INF cannot start. {visible(str(error))}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
