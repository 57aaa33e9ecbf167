package wasi

// filetype, fdflags and rights are as preview1 numbers them.
type filetype uint8

const (
	typeUnknown         filetype = 0
	typeBlockDevice     filetype = 1
	typeCharacterDevice filetype = 2
	typeDirectory       filetype = 3
	typeRegular         filetype = 4
	typeSocketDatagram  filetype = 5
	typeSocketStream    filetype = 6
	typeSymlink         filetype = 7
)

type fdflags uint16

const (
	flagAppend fdflags = 1 << iota
	flagDsync
	flagNonblock
	flagRsync
	flagSync
	allFlags = flagAppend | flagDsync | flagNonblock | flagRsync | flagSync
)

type rights uint64

const (
	rightDatasync rights = 1 << iota
	rightRead
	rightSeek
	rightSetFlags
	rightSync
	rightTell
	rightWrite
	rightAdvise
	rightAllocate
	rightCreateDirectory
	rightCreateFile
	rightLinkSource
	rightLinkTarget
	rightOpen
	rightReaddir
	rightReadlink
	rightRenameSource
	rightRenameTarget
	rightPathStat
	rightPathSetSize
	rightPathSetTimes
	rightStat
	rightSetSize
	rightSetTimes
	rightSymlink
	rightRemoveDirectory
	rightUnlink
	rightPoll
	rightShutdown
	rightAccept

	allRights = rightAccept<<1 - 1
)

// What each kind of descriptor may do. A preopened directory's set is the one
// that guests' libraries expect; the rest of preview1's rights are history,
// and like wasmtime we keep them only as fd_fdstat_get shows them.
const (
	rightsOfPreopen = rightCreateDirectory | rightCreateFile | rightLinkSource | rightLinkTarget |
		rightOpen | rightReaddir | rightReadlink | rightRenameSource | rightRenameTarget |
		rightSymlink | rightRemoveDirectory | rightUnlink | rightPathStat | rightPathSetTimes |
		rightStat | rightSetTimes
	rightsBelowPreopen = rightsOfPreopen | rightDatasync | rightRead | rightSeek | rightSetFlags |
		rightSync | rightTell | rightWrite | rightAdvise | rightAllocate | rightSetSize | rightPoll
	rightsOfSocket = rightRead | rightWrite | rightSetFlags | rightStat | rightPoll | rightShutdown | rightAccept

	// rightsToChange are those that a read-only mount takes away.
	rightsToChange = rightWrite | rightAllocate | rightCreateDirectory | rightCreateFile | rightLinkSource |
		rightLinkTarget | rightRenameSource | rightRenameTarget | rightPathSetSize | rightPathSetTimes |
		rightSetSize | rightSetTimes | rightSymlink | rightRemoveDirectory | rightUnlink
)
