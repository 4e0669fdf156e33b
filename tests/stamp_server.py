"""A time stamp server (RFC 3161) on this machine, by OpenSSL, with a certificate of its own authority."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from made_certificates import issued

CONFIG = """
[tsa]
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
serial = serial
signer_digest = sha256
ess_cert_id_alg = sha256
"""


@contextmanager
def stamp_server() -> Iterator[tuple[str, x509.Certificate]]:
    """The address of a server, and the authority that vouches for it."""
    authority, certificate, key = issued(ExtendedKeyUsageOID.TIME_STAMPING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tsa.cnf").write_text(CONFIG)
        (folder / "serial").write_text("01\n")
        (folder / "tsa.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        server = HTTPServer(("127.0.0.1", 0), _handler(folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", authority
        finally:
            server.shutdown()
            server.server_close()


def _handler(folder: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (folder / "query").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            signing = ("-config", "tsa.cnf", "-section", "tsa", "-signer", "tsa.pem", "-inkey", "key.pem")
            reply = ("openssl", "ts", "-reply", "-queryfile", "query", *signing, "-out", "reply")
            subprocess.run(reply, cwd=folder, check=True, capture_output=True)
            content = (folder / "reply").read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
