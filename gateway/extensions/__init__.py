"""Extensions: what runs beside the pipelines, each a folder with its settings, its factory and its service."""
