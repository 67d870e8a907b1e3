"""What the bytes of a video file say before any picture is decoded: container, tracks, wholeness, fields."""
