"""What the workspace knows: schema, locks, migrations, queries."""
