"""Verifies DKIM signatures with dkimpy, Debian's package python3-dkim.

Each line of the input is a request: {"message": base64, "dns": {name: TXT value}}. Each line of
the output is a list with an entry for each signature of the message, the topmost first: "good",
or why it is not.
"""

import base64
import json
import sys

import dkim
import nacl.signing  # without it, dkimpy cannot verify Ed25519


def verify(request):
    message = base64.b64decode(request["message"])

    def txt(name, timeout=5):
        return request["dns"].get(name.decode().rstrip("."), "")

    verifier = dkim.DKIM(message)
    out = []
    for i in range(sum(name.lower() == b"dkim-signature" for name, _ in verifier.headers)):
        try:
            out.append("good" if dkim.DKIM(message).verify(idx=i, dnsfunc=txt) else "bad signature")
        except dkim.DKIMException as e:
            out.append(str(e))
    return out


for line in sys.stdin:
    print(json.dumps(verify(json.loads(line))), flush=True)
