"""The OpenAPI document, as it is kept in `docs/openapi.json`."""

from __future__ import annotations

import json

from fastapi import FastAPI


def document(app: FastAPI) -> str:
    """The document as text, in an order that does not change from run to run."""
    return json.dumps(app.openapi(), indent=1, sort_keys=True, ensure_ascii=False)
