"""Aim mode: for the person who points the camera. Numbers, and where the owner allows it a mosaic; nothing is kept."""
