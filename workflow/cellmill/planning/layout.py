"""Layout of results/: the one place that knows where a stage writes."""

# Kinds of shard folder
ROOMS = {
    "raw": "results/{dataset}/raw/{shard}",
    "images": "results/{dataset}/images/{shard}",
    "labels": "results/{dataset}/labels/{shard}",
    "probabilities": "results/{dataset}/{run}/probabilities/{shard}",
    "segmentation": "results/{dataset}/{run}/segmentation/{shard}",
}
# Tables of the stage evaluate
EVALUATED = ("metrics", "scores", "comparisons", "curves", "sizes")
