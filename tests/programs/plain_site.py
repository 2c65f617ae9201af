"""A site of one page: `python -m tests.programs.plain_site ADDRESS CERTIFICATE KEY`; `/ip` answers who asks."""

from __future__ import annotations

import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = "<!doctype html><html lang=ko><link rel=icon href=data:,><title>가게</title><h1>무선 키보드 39,000원</h1>"


class Handler(BaseHTTPRequestHandler):
    """Every path but /ip is the page."""

    def do_GET(self) -> None:
        text = self.client_address[0] if self.path == "/ip" else PAGE
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(text.encode())


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server = ThreadingHTTPServer((sys.argv[1], 443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print("ready", flush=True)
server.serve_forever()
