"""The command ``maskstream``: one module a command; typer and rich live here alone."""
