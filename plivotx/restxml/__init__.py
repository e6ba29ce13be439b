"""The application's XML: `document` reads it, `script` runs it."""
