"""Video files, photos and image folders: decoding, encoding, verification. Imports only the top of `data`."""
