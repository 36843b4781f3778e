"""The public corpus: The Legend of Zelda in the Video Game Level Corpus, and what its files are.

Summerville, Snodgrass, Mateas and Ontañón, "The VGLC: The Video Game Level Corpus" (2016); MIT licence. Sizes and
hashes are those of the first quest: nine dungeons, 236 rooms. Files of the second quest beside them are read as well.
"""

from __future__ import annotations

from outlast_recipes.common.downloading import File

ADDRESS = "https://raw.githubusercontent.com/TheVGLC/TheVGLC/master/The%20Legend%20of%20Zelda"
LICENCE = "MIT, copyright 2016 Adam Summerville, Santiago Ontanon, Sam Snodgrass; https://github.com/TheVGLC/TheVGLC"

FILES = (
    File("Processed/tloz1_1.txt", 6432, "eb49d0259b81215085140604c9f6eaa8a10b9da88898a99a219829036c2dc615"),
    File("Processed/tloz2_1.txt", 5696, "3b9061692319686a38bd7208b6132a4e9b7a5fd0969096c60f89b372c31ab363"),
    File("Processed/tloz3_1.txt", 5360, "6fcab00b754a1fe47c3cd18922a461263e17ed5c6ff1a971c1c547a07156d9bb"),
    File("Processed/tloz4_1.txt", 5696, "11c68d023242dd741eb7c9b248116c4e48eced52a1f418addc2530c02ab000cc"),
    File("Processed/tloz5_1.txt", 5696, "dac57bf2ba56c6436c7be62089b62423ed92aa37d52a143fc8e4b3e7ba8ab52b"),
    File("Processed/tloz6_1.txt", 8544, "592ecaa85b53ab393d8d4a6e879644a69075c658e336989be3592dc5a0590eca"),
    File("Processed/tloz7_1.txt", 8544, "f565f9c029b011e765a69ca0b3cfbdb5d9762268f7fd59a57be0c974a4de1fa8"),
    File("Processed/tloz8_1.txt", 7120, "29b4dfb76b93616d92cac0efab331e7c064332c3553d99bf7752d6d97f116168"),
    File("Processed/tloz9_1.txt", 11392, "ace81b41f12457dc6877158ef3540128598fe52dc83501d98e8282b15933a665"),
    File("Graph Processed/LoZ_1.dot", 1086, "730d56e56ec29de7e6cc81bebed6f03f610042f2318ecb27f638fb9150ede2fb"),
    File("Graph Processed/LoZ_2.dot", 1232, "eec1b7cf28435a0a049cd16dbf024e8251c45ff983c33e06d0ba14e0149f2814"),
    File("Graph Processed/LoZ_3.dot", 1184, "9219cb5df56f2910bb22eabbc58d2fef9829c0e13829f8f9bfac0ac69fc9d3c3"),
    File("Graph Processed/LoZ_4.dot", 1636, "790607cd9be8b6ea0afba21b18cd46249c78e69c43090f459c4d0dd2f0c22e54"),
    File("Graph Processed/LoZ_5.dot", 1480, "04b4cec58aeaa094a73586560d1270ad988882c2ea8b270939ba3c7dc9e21b57"),
    File("Graph Processed/LoZ_6.dot", 1576, "38ab0f6da4fb841847f39d55e70aef189fdc012a8f7dced80cad51343693d112"),
    File("Graph Processed/LoZ_7.dot", 2111, "81a32f1e7fa7f98edb03e02b5979778e667ace293eba7541812226e7fe20ce3d"),
    File("Graph Processed/LoZ_8.dot", 1615, "c07420d5ab39222fb4d88951707c5e314d61d1aff5f85aadf432d3fcff6fe057"),
    File("Graph Processed/LoZ_9.dot", 3913, "d6c7de8829079135f0c3322125ef0fd41947501b3938ca94bec0db5e48f82d32"),
)
