"""Layout of the float32 record that the numba kernels keep of one Gaussian on one camera's image plane."""

MEAN_X, MEAN_Y = 0, 1  # pixels
CONIC_A, CONIC_B, CONIC_C = 2, 3, 4  # inverse of the 2D covariance: xx, xy, yy, per pixel^2
OPACITY = 5  # after compensation
DEPTH = 6
POWER = 7  # 2 ln(255 opacity): the squared Mahalanobis distance at which alpha is 1/255
EXTENT_X, EXTENT_Y = 8, 9  # pixels from the mean to where alpha is 1/255
SORTED_FLOATS = 10  # of a record that compositing needs: those above

COMPENSATION = 10  # factor of the opacity in antialiased mode
COV_XX, COV_XY, COV_YY = 11, 12, 13  # 2D covariance with `blur`, pixels^2
RECORD_FLOATS = 14
