"""The dialect of tasks and workers as resources, with JSON in base64 and errors as plain text."""
