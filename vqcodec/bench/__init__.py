"""Bitrate, distortion and speed of vqcodec beside the codecs a user would pick instead."""
