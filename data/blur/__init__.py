"""The motion blur operator, its adjoint, the sums of a Richardson-Lucy step. Imports the top of `data`."""
