"""Names of the papers' classes, for people to read where a copy of the data has numbers alone."""

from collections.abc import Sequence

FASHION_MNIST = (
  *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
  *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
CIFAR100 = tuple(_CIFAR100.split())
KNOWN = {"fashion_mnist": FASHION_MNIST, "cifar10": CIFAR10, "cifar100": CIFAR100}


def readable(dataset: str, names: Sequence[str]) -> list[str]:
  """What to call the classes of a dataset before people.

  Args:
    dataset: its name.
    names: of its classes, by which everything else knows them.

  Returns:
    The known names, if these are nothing but the numbers from 0 on; else these.
  """
  known = KNOWN.get(dataset, ())
  numbered = [str(number) for number in range(len(known))]
  return list(known if known and list(names) == numbered else map(str, names))
