"""Random clips for training, one per seed. May import `scene2d`, `degradations` and `data.media`."""
