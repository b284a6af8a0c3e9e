"""Reads messages with Python's email package: one base64 line each on standard
input, one line of JSON each on standard output."""
import base64
import datetime
import email
import email.policy
import json
import sys


def people(message, name):
    return [[a.display_name, a.addr_spec] for f in message.get_all(name, []) for a in f.addresses if a.domain]


def content(part):
    payload = part.get_payload(decode=True) or b""
    charset = part.get_content_charset("us-ascii")
    try:
        return payload.decode(charset, "replace")
    except LookupError:
        return payload.decode("latin-1")


def read(raw):
    message = email.message_from_bytes(raw, policy=email.policy.default)
    text, html, attachments = [], [], []

    def walk(part):
        kind = part.get_content_type()
        if kind == "message/rfc822" or kind == "message/delivery-status":
            attachments.append({"filename": part.get_filename() or "", "type": kind, "size": -1})
        elif part.is_multipart():
            for child in part.iter_parts():
                walk(child)
        elif kind == "text/plain" and not part.is_attachment():
            text.append(content(part))
        elif kind == "text/html" and not part.is_attachment():
            html.append(content(part))
        elif not kind.startswith("multipart/"):
            size = len(part.get_payload(decode=True) or b"")
            attachments.append({"filename": part.get_filename() or "", "type": kind, "size": size})

    walk(message)
    date = message["date"] and message["date"].datetime
    if date and date.tzinfo is None:
        date = date.replace(tzinfo=datetime.timezone.utc)
    return {
        "text": "\r\n".join(t for t in text if t), "html": "\r\n".join(h for h in html if h), "subject": message["subject"] or "",
        "date": date.astimezone(datetime.timezone.utc).isoformat() if date else None,
        "from": people(message, "from"), "to": people(message, "to"), "attachments": attachments,
    }


for line in sys.stdin:
    try:
        out = read(base64.b64decode(line))
    except Exception as e:  # the package has errors of every kind for broken mail
        out = {"error": repr(e)}
    print(json.dumps(out), flush=True)
