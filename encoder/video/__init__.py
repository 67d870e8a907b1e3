"""From a video file to the frames of its clips, decoded in child processes that can be killed."""
