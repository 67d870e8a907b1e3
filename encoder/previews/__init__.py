"""Small copies of videos to look at."""
