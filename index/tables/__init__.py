"""The LanceDB store: rows of clips, videos and patients, how they are written, and who may not be stored again."""
