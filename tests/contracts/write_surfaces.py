"""``python -m tests.contracts.write_surfaces``: write the generated files anew."""

from tests.contracts.surfaces import write_golden, write_schemas

if __name__ == "__main__":
    write_schemas()
    write_golden()
