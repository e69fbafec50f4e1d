/* checkpoint/expect_text.h: the first 1,000 bytes of Tiny Shakespeare (public domain), up to the
 * end of a speech: what value R15 of expect.h is computed over.
 *
 * May include: nothing. */
#ifndef LLORCH_CHECKPOINT_EXPECT_TEXT_H
#define LLORCH_CHECKPOINT_EXPECT_TEXT_H

static const char expect_text[] = "First Citizen:\n"
                                  "Before we proceed any further, hear me speak.\n"
                                  "\n"
                                  "All:\n"
                                  "Speak, speak.\n"
                                  "\n"
                                  "First Citizen:\n"
                                  "You are all resolved rather to die than to famish?\n"
                                  "\n"
                                  "All:\n"
                                  "Resolved. resolved.\n"
                                  "\n"
                                  "First Citizen:\n"
                                  "First, you know Caius Marcius is chief enemy to the people.\n"
                                  "\n"
                                  "All:\n"
                                  "We know't, we know't.\n"
                                  "\n"
                                  "First Citizen:\n"
                                  "Let us kill him, and we'll have corn at our own price.\n"
                                  "Is't a verdict?\n"
                                  "\n"
                                  "All:\n"
                                  "No more talking on't; let it be done: away, away!\n"
                                  "\n"
                                  "Second Citizen:\n"
                                  "One word, good citizens.\n"
                                  "\n"
                                  "First Citizen:\n"
                                  "We are accounted poor citizens, the patricians good.\n"
                                  "What authority surfeits on would relieve us: if they\n"
                                  "would yield us but the superfluity, while it were\n"
                                  "wholesome, we might guess they relieved us humanely;\n"
                                  "but they think we are too dear: the leanness that\n"
                                  "afflicts us, the object of our misery, is as an\n"
                                  "inventory to particularise their abundance; our\n"
                                  "sufferance is a gain to them Let us revenge this with\n"
                                  "our pikes, ere we become rakes: for the gods know I\n"
                                  "speak this in hunger for bread, not in thirst for revenge.\n"
                                  "\n";

#endif
