"""The scenario language: TOML files, programs, conditions, matrices, and errors that point at the place.

What other rooms use:

- ``load.load(path, names)``, ``load.loads(text, path, names)``, ``load.find(names_or_paths, default_dir)``: files to scenarios.
- ``model.Scenario`` and its parts; ``model.Names``: names that the caller knows from tables of higher layers.
- ``matrix.cells(scenario, overrides, preset)``: the cells with their configuration and expectations.
- ``program.flatten(program)``: the operations of one CPU, one after the other, as ``BoundCall``.
- ``condition.Condition`` and ``condition.Facts``: what an expectation says, and what it asks of a run.
- ``stress.expand_stress(scenario, seed)``: the programs of one schedule.
- ``schema.json_schema()``: the schema for editors.

Reading order: keys (every key of the language), load (the order of reading), then the sections (sections, memory, cpus),
program with arguments and expression, condition with condition_text. positions and reader find the place of an error.
"""
