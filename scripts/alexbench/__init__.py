"""The study's library: variants, data, recipe, training loop, backends, results. Knows nothing of Snakemake."""

import os

# A notebook's backend is not installed here, and matplotlib ends where it is first imported. Rules inherit this from the Snakefile.
os.environ["MPLBACKEND"] = "Agg"
# Of the backends that Keras has, the one that is meant here.
os.environ["KERAS_BACKEND"] = "tensorflow"
# Where Keras finds no keras.json of the user's, which may ask for float64 or for channels first, and writes none.
os.environ["KERAS_HOME"] = os.devnull
