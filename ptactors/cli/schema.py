"""``ptactors schema``: JSON Schemas for editors and scripts."""

from __future__ import annotations

import json

import click


@click.command("schema")
@click.argument("what", type=click.Choice(["scenario", "document"]))
def command(what: str) -> None:
    """Print the JSON Schema of scenario files, or of the document of ``run --json``."""
    if what == "scenario":
        from ptactors.scenario.schema import json_schema

        schema = json_schema()
    else:
        from ptactors.report.document import SCHEMA

        schema = SCHEMA
    print(json.dumps(schema, indent=2))
