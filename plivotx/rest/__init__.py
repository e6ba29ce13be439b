"""The HTTP API: `forms` reads what is posted (pure), `app` answers (Klein)."""
