"""``ptactors schema``: JSON Schemas for editors and scripts."""

from __future__ import annotations

import json

import click


@click.command("schema")
@click.argument("what", type=click.Choice(["scenario", "document", "stress"]))
def command(what: str) -> None:
    """Print the JSON Schema of scenario files, of the document of ``run --json``, or of that of ``stress --json``."""
    if what == "scenario":
        from ptactors.scenario.schema import json_schema

        schema = json_schema()
    elif what == "stress":
        from ptactors.report import stress_document

        schema = stress_document.SCHEMA
    else:
        from ptactors.report import document

        schema = document.SCHEMA
    print(json.dumps(schema, indent=2))
